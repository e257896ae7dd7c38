// Package models knows models as files: a catalogue of known ones with what they need, a folder that holds them, getting them
// from the Hugging Face hub or any URL, and turning a BERT-family safetensors folder into GGUF.
//
// Nothing here runs a model. A [Library] is safe for concurrent use, also by several processes on the same folder: files
// appear under their names only when they are whole and their checksum, where one is known, is right.
package models
