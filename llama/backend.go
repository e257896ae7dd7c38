package llama

// #include <stdlib.h>
// #include "core_shim.h"
import "C"

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// Version is the release of llama.cpp that is linked in.
func Version() string { return C.GoString(C.llama_version()) }

// BuildKey names the build of llama.cpp that is linked in: release, backends, and for builds for one processor a hash
// of its features.
func BuildKey() string { return buildKey }

// ready starts llama.cpp, once. On a processor that it was not built for it returns ErrCPU instead, as starting would end
// the process already.
var ready = sync.OnceValue(func() error {
	if err := CheckCPU(); err != nil {
		return err
	}
	C.core_init()
	return nil
})

// SystemInfo lists, in llama.cpp's words, what its backends were compiled with. It is empty where CheckCPU fails.
func SystemInfo() string {
	if ready() != nil {
		return ""
	}
	return strings.TrimSpace(C.GoString(C.llama_print_system_info()))
}

// DeviceKind is what a device is.
type DeviceKind string

// The kinds of devices.
const (
	DeviceCPU           DeviceKind = "cpu"
	DeviceGPU           DeviceKind = "gpu"
	DeviceIntegratedGPU DeviceKind = "integrated gpu"
	DeviceAccelerator   DeviceKind = "accelerator" // works beside the CPU: BLAS, AMX
	DeviceOther         DeviceKind = "other"
)

// Device is something that computes. Memory is in bytes; the CPU's is the system's, and a container's limit is not
// looked at.
type Device struct {
	Name        string
	Description string
	Kind        DeviceKind
	ID          string // PCI address, where known
	MemoryFree  uint64
	MemoryTotal uint64
}

// Devices lists the devices that the linked backends see now.
func Devices() []Device {
	if ready() != nil {
		return nil
	}
	devices := make([]Device, 0, C.ggml_backend_dev_count())
	for i := range C.ggml_backend_dev_count() {
		var p C.struct_ggml_backend_dev_props
		C.ggml_backend_dev_get_props(C.ggml_backend_dev_get(i), &p)
		d := Device{
			Name: C.GoString(p.name), Description: C.GoString(p.description), Kind: DeviceOther, ID: C.GoString(p.device_id),
			MemoryFree: uint64(p.memory_free), MemoryTotal: uint64(p.memory_total),
		}
		switch p._type {
		case C.GGML_BACKEND_DEVICE_TYPE_CPU:
			d.Kind = DeviceCPU
		case C.GGML_BACKEND_DEVICE_TYPE_GPU:
			d.Kind = DeviceGPU
		case C.GGML_BACKEND_DEVICE_TYPE_IGPU:
			d.Kind = DeviceIntegratedGPU
		case C.GGML_BACKEND_DEVICE_TYPE_ACCEL:
			d.Kind = DeviceAccelerator
		}
		devices = append(devices, d)
	}
	return devices
}

// SupportsGPU tells whether a backend that can offload layers is linked in and sees a device.
func SupportsGPU() bool {
	return ready() == nil && bool(C.llama_supports_gpu_offload())
}

// CheckCPU returns ErrCPU when llama.cpp was compiled for a processor with instructions that this one lacks. Everything
// that would load or compute something then returns it, too, as an illegal instruction would end the process.
func CheckCPU() error {
	type feature struct {
		name     string
		compiled C.int
		present  bool
	}
	var features []feature
	switch runtime.GOARCH {
	case "amd64":
		x := &cpu.X86
		features = []feature{
			{"SSE3", C.ggml_cpu_has_sse3(), x.HasSSE3},
			{"SSSE3", C.ggml_cpu_has_ssse3(), x.HasSSSE3},
			{"AVX", C.ggml_cpu_has_avx(), x.HasAVX},
			{"AVX2", C.ggml_cpu_has_avx2(), x.HasAVX2},
			{"AVX-VNNI", C.ggml_cpu_has_avx_vnni(), x.HasAVXVNNI || x.HasAVX512VNNI},
			{"BMI2", C.ggml_cpu_has_bmi2(), x.HasBMI2},
			{"FMA", C.ggml_cpu_has_fma(), x.HasFMA},
			{"AVX-512", C.ggml_cpu_has_avx512(), x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512CD},
			{"AVX-512 VBMI", C.ggml_cpu_has_avx512_vbmi(), x.HasAVX512VBMI},
			{"AVX-512 VNNI", C.ggml_cpu_has_avx512_vnni(), x.HasAVX512VNNI},
			{"AVX-512 BF16", C.ggml_cpu_has_avx512_bf16(), x.HasAVX512BF16},
			{"AMX INT8", C.ggml_cpu_has_amx_int8(), x.HasAMXInt8 && x.HasAMXTile},
		}
	case "arm64":
		if runtime.GOOS != "linux" {
			return nil // macOS tells too little of them before version 13; elsewhere they cannot be read without privileges
		}
		a := &cpu.ARM64
		features = []feature{
			{"NEON", C.ggml_cpu_has_neon(), a.HasASIMD},
			{"FP16 arithmetic", C.ggml_cpu_has_fp16_va(), a.HasASIMDHP},
			{"dot product", C.ggml_cpu_has_dotprod(), a.HasASIMDDP},
			{"I8MM", C.ggml_cpu_has_matmul_int8(), a.HasI8MM},
			{"SVE", C.ggml_cpu_has_sve(), a.HasSVE},
		}
	}
	var missing []string
	for _, f := range features {
		if f.compiled != 0 && !f.present {
			missing = append(missing, f.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: this binary's llama.cpp (%s) needs %s, which this processor does not have; build it here, or take a portable build",
		ErrCPU, buildKey, strings.Join(missing, ", "))
}

// cFailure turns what the shim reports into an Error. kind is used where the shim knows no better.
func cFailure(op string, code int, e *C.core_err, kind error) error {
	switch e.kind {
	case C.CORE_NO_MEMORY:
		kind = ErrNoMemory
	case C.CORE_MISSING_TENSOR:
		kind = ErrMissingTensor
	case C.CORE_UNKNOWN_ARCH:
		kind = ErrUnsupportedArch
	case C.CORE_CORRUPT:
		kind = ErrCorrupt
	case C.CORE_REJECTED:
		kind = ErrRejected
	}
	return &Error{Op: op, Code: code, Msg: C.GoString(&e.msg[0]), Kind: kind}
}

// cStrings copies strings into one C allocation, which free releases.
func cStrings(texts []string) (array **C.char, free func()) {
	if len(texts) == 0 {
		return nil, func() {}
	}
	array = (**C.char)(C.malloc(C.size_t(len(texts)) * C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	items := unsafe.Slice(array, len(texts))
	for i, t := range texts {
		items[i] = C.CString(t)
	}
	return array, func() {
		for _, s := range items {
			C.free(unsafe.Pointer(s))
		}
		C.free(unsafe.Pointer(array))
	}
}
