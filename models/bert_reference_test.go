package models

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// bert is BERT's forward pass in plain float32, written from its description for these tests alone; it reads the safetensors
// file itself. (Devlin et al. 2019, https://arxiv.org/abs/1810.04805; Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)
type bert struct {
	hidden, heads, layers int
	epsilon               float64
	tensors               map[string][]float32
}

func readBert(t *testing.T, dir string) *bert {
	t.Helper()
	var config struct {
		Hidden  int     `json:"hidden_size"`
		Heads   int     `json:"num_attention_heads"`
		Layers  int     `json:"num_hidden_layers"`
		Epsilon float64 `json:"layer_norm_eps"`
	}
	parse(t, read(t, filepath.Join(dir, "config.json")), &config)
	data := read(t, filepath.Join(dir, "model.safetensors"))
	n := binary.LittleEndian.Uint64(data)
	var header map[string]struct {
		DType   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	parse(t, data[8:8+n], &header)
	b := &bert{hidden: config.Hidden, heads: config.Heads, layers: config.Layers, epsilon: config.Epsilon, tensors: map[string][]float32{}}
	for name, e := range header {
		if e.DType != "F32" {
			continue
		}
		raw := data[8+n:][e.Offsets[0]:e.Offsets[1]]
		values := make([]float32, len(raw)/4)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		b.tensors[name] = values
	}
	return b
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// rows gives the last layer's row for every token.
func (b *bert) rows(ids []int32) [][]float32 {
	words, places, kinds := b.tensors["embeddings.word_embeddings.weight"], b.tensors["embeddings.position_embeddings.weight"], b.tensors["embeddings.token_type_embeddings.weight"]
	x := matrix(len(ids), b.hidden)
	for i, id := range ids {
		for j := range x[i] {
			x[i][j] = words[int(id)*b.hidden+j] + places[i*b.hidden+j] + kinds[j]
		}
	}
	b.norm(x, nil, "embeddings.LayerNorm")
	for l := range b.layers {
		at := "encoder.layer." + string(rune('0'+l)) + "."
		q, k, v := b.linear(x, at+"attention.self.query"), b.linear(x, at+"attention.self.key"), b.linear(x, at+"attention.self.value")
		b.norm(x, b.linear(b.attend(q, k, v), at+"attention.output.dense"), at+"attention.output.LayerNorm")
		inner := b.linear(x, at+"intermediate.dense")
		each(inner, func(row []float32) {
			for j, f := range row { // GELU with the error function (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)
				row[j] = float32(float64(f) / 2 * (1 + math.Erf(float64(f)/math.Sqrt2)))
			}
		})
		b.norm(x, b.linear(inner, at+"output.dense"), at+"output.LayerNorm")
	}
	return x
}

// mean is the mean of the rows, as sentence-transformers pools them.
func mean(rows [][]float32) []float32 {
	out := make([]float32, len(rows[0]))
	for _, row := range rows {
		for j, f := range row {
			out[j] += f / float32(len(rows))
		}
	}
	return out
}

// linear is x·Wᵀ + b; W has one row for each output.
func (b *bert) linear(x [][]float32, name string) [][]float32 {
	weight, bias := b.tensors[name+".weight"], b.tensors[name+".bias"]
	out := matrix(len(x), len(bias))
	width := len(x[0])
	const block = 16 // rows of the weight that stay in the cache while all of x passes
	parallel((len(bias)+block-1)/block, func(n int) {
		from, to := n*block, min((n+1)*block, len(bias))
		for i, row := range x {
			multiply(out[i][from:to], weight[from*width:to*width], row)
			for j := from; j < to; j++ {
				out[i][j] += bias[j]
			}
		}
	})
	return out
}

// attend lets every token look at all tokens, each head on its own part of the rows.
func (b *bert) attend(q, k, v [][]float32) [][]float32 {
	out := matrix(len(q), b.hidden)
	size := b.hidden / b.heads
	parallel(b.heads, func(head int) {
		from := head * size
		weights := make([]float64, len(q))
		score := make([]float32, 1)
		for i := range q {
			most := math.Inf(-1)
			for j := range k {
				score[0] = 0
				multiply(score, k[j][from:from+size], q[i][from:from+size])
				weights[j] = float64(score[0]) / math.Sqrt(float64(size))
				most = max(most, weights[j])
			}
			sum := 0.0
			for j := range weights {
				weights[j] = math.Exp(weights[j] - most)
				sum += weights[j]
			}
			for j := range weights {
				add(out[i][from:from+size], v[j][from:from+size], float32(weights[j]/sum))
			}
		}
	})
	return out
}

// norm adds change to x and normalizes every row. (Ba et al. 2016, https://arxiv.org/abs/1607.06450)
func (b *bert) norm(x, change [][]float32, name string) {
	weight, bias := b.tensors[name+".weight"], b.tensors[name+".bias"]
	for i, row := range x {
		var sum, squares float64
		for j := range row {
			if change != nil {
				row[j] += change[i][j]
			}
			sum += float64(row[j])
		}
		center := sum / float64(len(row))
		for _, f := range row {
			squares += (float64(f) - center) * (float64(f) - center)
		}
		scale := 1 / math.Sqrt(squares/float64(len(row))+b.epsilon)
		for j, f := range row {
			row[j] = float32((float64(f)-center)*scale)*weight[j] + bias[j]
		}
	}
}

// multiply gives the products of the rows of a matrix with one row. The race detector would make it ten times slower, and each
// caller has its own out.
//
//go:norace
func multiply(out, matrix, row []float32) {
	for i := range out {
		w := matrix[i*len(row):][:len(row)]
		var a, b, c, d float32
		j := 0
		for ; j+4 <= len(row); j += 4 {
			a += w[j] * row[j]
			b += w[j+1] * row[j+1]
			c += w[j+2] * row[j+2]
			d += w[j+3] * row[j+3]
		}
		for ; j < len(row); j++ {
			a += w[j] * row[j]
		}
		out[i] = a + b + c + d
	}
}

//go:norace
func add(out, row []float32, times float32) {
	for j, f := range row {
		out[j] += times * f
	}
}

func matrix(rows, columns int) [][]float32 {
	out := make([][]float32, rows)
	for i := range out {
		out[i] = make([]float32, columns)
	}
	return out
}

func each(x [][]float32, do func(row []float32)) { parallel(len(x), func(i int) { do(x[i]) }) }

// parallel calls do with 0 to n-1 on all processors.
func parallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				do(i)
			}
		})
	}
	wg.Wait()
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}
