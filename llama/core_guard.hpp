// What every call into llama.cpp runs in: whatever it logs as an error or throws becomes a core_err.
#pragma once

#include "assertions.hpp"
#include "core_shim.h"

#include <pthread.h>

#include <cstddef>
#include <exception>
#include <new>
#include <string>

namespace core {

// The first error line that llama.cpp logs on this thread while a call is under way.
extern thread_local std::string * first_error;

int  classify(const std::string & text);
void set_error(core_err * err, int kind, const std::string & text);

// Runs f, which returns whether it succeeded; everything it logs as an error or throws ends up in err.
template <typename F>
bool guarded(core_err * err, F && f, assertions::mode mode = assertions::throw_always) {
    assertions::scope scope(mode);
    err->kind   = CORE_OK;
    err->msg[0] = 0;

    std::string text;
    std::string * outer = first_error;
    first_error = &text;
    bool ok = false;
    try {
        ok = f();
        first_error = outer;
        if (!ok) {
            set_error(err, classify(text), text);
        }
    } catch (const std::bad_alloc &) {
        first_error = outer;
        set_error(err, CORE_NO_MEMORY, text);
    } catch (const std::exception & e) {
        first_error = outer;
        set_error(err, classify(e.what()), e.what());
    } catch (...) {
        first_error = outer;
        set_error(err, CORE_FAILED, "unknown C++ exception");
    }
    return ok;
}

// Runs f in a thread with that many bytes of stack, and waits for it.
template <typename F>
bool with_stack(size_t bytes, F & f) {
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    pthread_t thread;
    const bool started = pthread_attr_setstacksize(&attr, bytes) == 0 &&
        pthread_create(&thread, &attr, [](void * arg) -> void * { (*(F *) arg)(); return nullptr; }, &f) == 0;
    pthread_attr_destroy(&attr);
    return started && pthread_join(thread, nullptr) == 0;
}

} // namespace core
