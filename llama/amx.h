// GCC before 11.5, 12.4 and 13.3 doesn't know that AMX instructions read memory (its bug 114098): what a program wrote there may
// still be in registers, or be left out as dead, and ggml then loads a configuration of tiles that faults, or old data. Where the
// processor has AMX, scripts/llama has this file included before everything else, which says it.
#pragma once
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#include <immintrin.h>

#undef _tile_loadconfig
#undef _tile_loadd
#undef _tile_loadd_internal
#undef _tile_stream_loadd
#undef _tile_stream_loadd_internal
#undef _tile_stored
#undef _tile_stored_internal

#define _tile_loadconfig(from) __asm__ volatile("ldtilecfg\t%0" : : "m"(*(const char(*)[64])(from)) : "memory")
#define _tile_loadd(tile, from, stride) quipu_tile_move("tileloadd\t(%0,%1,1), %%tmm", tile, "", from, stride)
#define _tile_stream_loadd(tile, from, stride) quipu_tile_move("tileloaddt1\t(%0,%1,1), %%tmm", tile, "", from, stride)
#define _tile_stored(tile, to, stride) quipu_tile_move("tilestored\t%%tmm", tile, ", (%0,%1,1)", to, stride)
// A macro of its own, so that a tile given by a macro's name is its number by then.
#define quipu_tile_move(before, tile, after, base, stride) quipu_tile_asm(before, tile, after, base, stride)
#define quipu_tile_asm(before, tile, after, base, stride) \
  __asm__ volatile(before #tile after : : "r"((const void *)(base)), "r"((long)(stride)) : "memory")
#endif
