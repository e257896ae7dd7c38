// llama.cpp's assertions end in ggml_abort, which ends the process. Before, it calls a callback, and ours throws: llama.cpp
// and common catch exceptions while they load, parse and convert, and what they don't catch our guards do. scripts/llama
// builds the C files with -fexceptions, so that it may pass through them.
//
// It does not throw where several threads compute, who wait for one another: an assertion that fails there ends the process.
#pragma once

#include <stdexcept>

namespace assertions {

struct failed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum mode {
    end_process,
    throw_outside, // of OpenMP regions
    throw_always,
};

// What a failed assertion does on this thread.
extern thread_local mode current;

struct scope {
    const mode outer = current;
    explicit scope(mode m) { current = m; }
    ~scope() { current = outer; }
    scope(const scope &) = delete;
    scope & operator=(const scope &) = delete;
};

} // namespace assertions
