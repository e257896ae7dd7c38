// quipu answers questions from your own documents, on your own hardware.
package main

import (
	"os"

	"github.com/quipu-ai/quipu/cmd"
)

func main() {
	os.Exit(cmd.Execute())
}
