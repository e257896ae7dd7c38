// The C face of llama.cpp's common library: chat templates, their streaming parser and JSON schema to grammar.
// Requests and answers are JSON text, because the C++ behind has no stable structs. No C++ exception leaves a function
// declared here.
#ifndef QUIPU_COMMON_SHIM_H
#define QUIPU_COMMON_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What a call came to. On anything but CHAT_OK the answer is the message of the failure.
enum chat_code {
    CHAT_OK = 0,
    CHAT_FAILED,    // the input was refused
    CHAT_LIMIT,     // a limit of this shim was hit
    CHAT_NO_MEMORY, // no text comes with it
};

// Bytes on the C heap that the caller frees with chat_text_free.
typedef struct chat_text {
    char * data;
    size_t len;
} chat_text;

void chat_text_free(chat_text text);

// A parsed chat template. apply may be called from several threads at once.
typedef struct chat_template chat_template;

// The answer of new is a JSON object with what the template can do.
int  chat_template_new(const char * request, size_t len, chat_template ** out, chat_text * answer);
int  chat_template_apply(const chat_template * tmpl, const char * request, size_t len, chat_text * answer);
void chat_template_free(chat_template * tmpl);

// A parser of one answer. One thread at a time.
typedef struct chat_parser chat_parser;

// The request is the "parser" object of an answer of apply.
int  chat_parser_new(const char * request, size_t len, chat_parser ** out, chat_text * answer);
// Adds text to what was generated and answers what that changed. At the end, last is true.
int  chat_parser_add(chat_parser * parser, const char * text, size_t len, bool last, chat_text * answer);
void chat_parser_free(chat_parser * parser);

int chat_schema_to_grammar(const char * schema, size_t len, chat_text * answer);

#ifdef __cplusplus
}
#endif

#endif
