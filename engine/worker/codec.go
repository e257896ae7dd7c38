package worker

import (
	"math"

	"github.com/fxamacker/cbor/v2"
	"google.golang.org/grpc/mem"
)

// codec puts messages into CBOR, which unlike JSON keeps NaN, bytes that are no UTF-8, and nil apart from empty.
type codec struct{}

var encoding, decoding = func() (cbor.EncMode, cbor.DecMode) {
	encoding, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		panic(err) // of the constants above
	}
	decoding, err := cbor.DecOptions{MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32, UTF8: cbor.UTF8DecodeInvalid,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive}.DecMode()
	if err != nil {
		panic(err)
	}
	return encoding, decoding
}()

func (codec) Name() string { return "cbor" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := encoding.Marshal(v)
	return mem.BufferSlice{mem.SliceBuffer(data)}, err
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return decoding.Unmarshal(whole.ReadOnlyData(), v)
}
