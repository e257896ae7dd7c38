#include "common_shim.h"

#include "assertions.hpp"
#include "chat_guard.hpp"

#include "chat.h"
#include "jinja/caps.h"
#include "json-schema-to-grammar.h"
#include "json.h"
#include "log.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using json = common_json;

// As in common/chat.cpp: common offers no other way to the parsed program, which the guards below are put into.
struct common_chat_templates {
    bool add_bos;
    bool add_eos;
    bool has_explicit_template;  // Model had builtin template or template overridden was specified.
    std::unique_ptr<common_chat_template> template_default;  // always set (defaults to chatml)
    std::unique_ptr<common_chat_template> template_tool_use;
};

namespace {

void set_text(chat_text * out, const std::string & text) {
    out->data = nullptr;
    out->len  = 0;
    if (text.empty()) {
        return;
    }
    out->data = static_cast<char *>(malloc(text.size()));
    if (!out->data) {
        throw std::bad_alloc();
    }
    memcpy(out->data, text.data(), text.size());
    out->len = text.size();
}

// Runs f, which returns the answer, and turns whatever it throws into a code and a message.
template <typename F>
int guarded(chat_text * answer, F && f) {
    assertions::scope scope(assertions::throw_always);
    answer->data = nullptr;
    answer->len  = 0;
    try {
        int code = CHAT_OK;
        std::string text;
        try {
            text = f();
        } catch (const std::bad_alloc &) {
            throw;
        } catch (const chat::limit_error & e) {
            code = CHAT_LIMIT;
            text = e.what();
        } catch (const std::exception & e) {
            code = CHAT_FAILED;
            text = e.what();
        } catch (...) {
            code = CHAT_FAILED;
            text = "unknown C++ exception";
        }
        set_text(answer, text);
        return code;
    } catch (...) {
        return CHAT_NO_MEMORY;
    }
}

// common writes its own log to stderr from a thread of its own; what matters of it arrives as exceptions.
void silence_common_log() {
    static std::once_flag once;
    std::call_once(once, [] { common_log_set_verbosity_thold(-1000); });
}

// common formats today's date with localtime, which keeps its result in a static buffer.
std::mutex apply_mutex;

std::vector<common_chat_msg> messages_from(const json & list) {
    std::vector<common_chat_msg> msgs;
    for (const auto & m : list) {
        common_chat_msg msg;
        msg.role              = m.at("role").get<std::string>();
        msg.content           = m.value("content", "");
        msg.reasoning_content = m.value("reasoning", "");
        msg.tool_name         = m.value("name", "");
        msg.tool_call_id      = m.value("tool_call_id", "");
        if (m.contains("tool_calls")) {
            for (const auto & c : m.at("tool_calls")) {
                common_chat_tool_call call;
                call.id        = c.value("id", "");
                call.name      = c.at("name").get<std::string>();
                call.arguments = c.value("arguments", "");
                msg.tool_calls.push_back(std::move(call));
            }
        }
        msgs.push_back(std::move(msg));
    }
    return msgs;
}

const char * trigger_kind(common_grammar_trigger_type type) {
    switch (type) {
        case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN:        return "token";
        case COMMON_GRAMMAR_TRIGGER_TYPE_WORD:         return "word";
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN:      return "pattern";
        case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL: return "pattern_full";
    }
    throw std::runtime_error("unknown kind of grammar trigger");
}

common_chat_templates_inputs inputs_from(const json & request) {
    common_chat_templates_inputs in;
    in.messages               = messages_from(request.at("messages"));
    in.grammar                = request.value("grammar", "");
    in.json_schema            = request.value("json_schema", "");
    in.add_generation_prompt  = request.at("add_generation_prompt").get<bool>();
    in.continue_final_message = request.at("continue").get<bool>() ? COMMON_CHAT_CONTINUATION_AUTO : COMMON_CHAT_CONTINUATION_NONE;
    in.tool_choice            = common_chat_tool_choice_parse_oaicompat(request.at("tool_choice").get<std::string>());
    in.parallel_tool_calls    = request.at("parallel").get<bool>();
    in.reasoning_format       = COMMON_REASONING_FORMAT_AUTO;
    in.enable_thinking        = request.at("thinking").get<bool>();
    for (const auto & t : request.at("tools")) {
        in.tools.push_back({
            t.at("name").get<std::string>(),
            t.value("description", ""),
            t.at("parameters").get<std::string>(),
        });
    }
    for (const auto & [key, value] : request.at("kwargs").items()) {
        in.chat_template_kwargs[key] = value.get<std::string>();
    }
    return in;
}

// Whether a template has a reasoning section; one that refuses a plain question has none.
bool supports_thinking(const common_chat_templates * templates) {
    try {
        std::lock_guard<std::mutex> lock(apply_mutex);
        return common_chat_templates_support_enable_thinking(templates);
    } catch (const std::bad_alloc &) {
        throw;
    } catch (const std::exception &) {
        return false;
    }
}

json answer_from(const common_chat_params & params, bool continued) {
    json triggers = json::array();
    for (const auto & t : params.grammar_triggers) {
        triggers.push_back({
            {"kind", trigger_kind(t.type)},
            {"value", t.value},
            {"token", (int64_t) t.token},
        });
    }
    return json{
        {"prompt", params.prompt},
        {"grammar", params.grammar},
        {"grammar_lazy", params.grammar_lazy},
        {"triggers", triggers},
        {"preserved_tokens", params.preserved_tokens},
        {"stops", params.additional_stops},
        {"generation_prompt", params.generation_prompt},
        {"format", common_chat_format_name(params.format)},
        {"supports_thinking", params.supports_thinking},
        {"thinking_start", params.thinking_start_tag},
        {"thinking_ends", params.thinking_end_tags},
        {"parser", json{
            {"format", (int64_t) params.format},
            {"grammar", params.parser},
            {"generation_prompt", params.generation_prompt},
            {"continued", continued},
        }},
    };
}

} // namespace

struct chat_template {
    common_chat_templates_ptr templates;
};

struct chat_parser {
    common_chat_parser_params params;
    std::string               generated;
    common_chat_msg           message; // what was answered so far
};

namespace {

json call_json(size_t index, const common_chat_tool_call & call) {
    return json{
        {"index", (int64_t) index},
        {"id", call.id},
        {"name", call.name},
        {"arguments", call.arguments},
    };
}

std::string parser_add(chat_parser & parser, const char * text, size_t len, bool last) {
    parser.generated.append(text, len);
    common_chat_msg next = common_chat_parse(parser.generated, !last, parser.params);
    json diffs = json::array();
    if (next.empty() && !last) { // nothing certain yet: keep what was
        return json{{"diffs", diffs}}.dump();
    }
    for (const auto & d : common_chat_msg_diff::compute_diffs(parser.message, next)) {
        json diff{
            {"content", d.content_delta},
            {"reasoning", d.reasoning_content_delta},
        };
        if (d.tool_call_index != std::string::npos) {
            diff["call"] = call_json(d.tool_call_index, d.tool_call_delta);
        }
        diffs.push_back(diff);
    }
    parser.message = std::move(next);
    return json{{"diffs", diffs}}.dump();
}

} // namespace

extern "C" {

void chat_text_free(chat_text text) {
    free(text.data);
}

int chat_template_new(const char * request, size_t len, chat_template ** out, chat_text * answer) {
    *out = nullptr;
    return guarded(answer, [&] {
        silence_common_log();
        const json in = json::parse(std::string(request, len));
        std::string source = in.at("source").get<std::string>();
        if (source.empty()) {
            source = "chatml";
        }
        auto tmpl = std::make_unique<chat_template>();
        chat::budget_scope budget;
        if (source != "chatml") { // init tries the program, so it must be known to come to an end
            jinja::program trial = chat::guarded_program(source);
            jinja::caps_get(trial);
            budget.check();
        }
        tmpl->templates = common_chat_templates_init(nullptr, source, in.at("bos").get<std::string>(), in.at("eos").get<std::string>());
        tmpl->templates->add_bos = in.at("add_bos").get<bool>();
        tmpl->templates->add_eos = in.at("add_eos").get<bool>();
        common_chat_template & parsed = *tmpl->templates->template_default;
        parsed.prog = chat::guarded_program(parsed.src + "\n"); // lexing took one newline off the end already
        json caps = json::object();
        for (const auto & [name, has] : common_chat_templates_get_caps(tmpl->templates.get())) {
            caps[name] = has;
        }
        const json result{
            {"source", common_chat_templates_source(tmpl->templates.get())},
            {"caps", caps},
            {"thinking", supports_thinking(tmpl->templates.get())},
        };
        budget.check();
        std::string text = result.dump();
        *out = tmpl.release();
        return text;
    });
}

void chat_template_free(chat_template * tmpl) {
    delete tmpl;
}

int chat_template_apply(const chat_template * tmpl, const char * request, size_t len, chat_text * answer) {
    return guarded(answer, [&] {
        const json in_json = json::parse(std::string(request, len));
        const common_chat_templates_inputs in = inputs_from(in_json);
        common_chat_params params;
        {
            std::lock_guard<std::mutex> lock(apply_mutex);
            chat::budget_scope budget(len, in_json.at("now").get<int64_t>());
            try {
                params = common_chat_templates_apply(tmpl->templates.get(), in);
            } catch (const std::exception &) {
                budget.check(); // that is the reason then
                throw;
            }
            budget.check();
        }
        return answer_from(params, in.continue_final_message != COMMON_CHAT_CONTINUATION_NONE).dump();
    });
}

int chat_parser_new(const char * request, size_t len, chat_parser ** out, chat_text * answer) {
    *out = nullptr;
    return guarded(answer, [&] {
        silence_common_log();
        const json in = json::parse(std::string(request, len));
        auto parser = std::make_unique<chat_parser>();
        parser->params.format            = (common_chat_format) in.at("format").get<int>();
        parser->params.reasoning_format  = COMMON_REASONING_FORMAT_AUTO;
        parser->params.generation_prompt = in.at("generation_prompt").get<std::string>();
        parser->params.is_continuation   = in.at("continued").get<bool>();
        const std::string grammar = in.at("grammar").get<std::string>();
        if (!grammar.empty()) {
            parser->params.parser.load(grammar);
        }
        if (parser->params.is_continuation) { // what the caller wrote is not part of the answer
            parser->message = common_chat_parse("", true, parser->params);
        }
        *out = parser.release();
        return std::string();
    });
}

int chat_parser_add(chat_parser * parser, const char * text, size_t len, bool last, chat_text * answer) {
    return guarded(answer, [&] { return parser_add(*parser, text, len, last); });
}

void chat_parser_free(chat_parser * parser) {
    delete parser;
}

int chat_schema_to_grammar(const char * schema, size_t len, chat_text * answer) {
    return guarded(answer, [&] {
        silence_common_log();
        return json_schema_to_grammar(json::parse(std::string(schema, len)), true);
    });
}

} // extern "C"
