// Guards of Jinja programs. The interpreter of common runs whatever a template says: endless recursion overflows the
// stack, loops over range(1000000000) and doubled strings take all time and memory, containers within themselves never
// end. Nodes of the parsed program are therefore replaced by ones that count, measure and look.
//
// What is left to a hostile template is memory: a filter may still make one huge text at once.
#pragma once

#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace chat {

// Thrown for what the shim refuses, as opposed to what common refuses.
struct limit_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

constexpr int64_t base_steps     = 200'000; // loop turns, elements of ranges and KiB of new text, in one call
constexpr size_t  max_string     = 32 << 20;
constexpr double  max_range      = 10'000;
constexpr size_t  max_stack      = 1 << 20;
constexpr int     max_containers = 64;  // nesting of values
constexpr int     max_nesting    = 64;  // of blocks, and of brackets in an expression
constexpr int     max_operators  = 400; // in one expression

// What one call of a function of this file may still use.
struct budget {
    int64_t      steps = base_steps;
    const char * stack = nullptr;
    std::time_t  now   = 0;
    std::string  exceeded; // what was too much; the interpreter may swallow the exception that said so

    [[noreturn]] void exceed(const std::string & what) {
        exceeded = what;
        throw limit_error(what);
    }
    void spend(int64_t n) {
        if (!exceeded.empty()) {
            throw limit_error(exceeded);
        }
        if ((steps -= n) < 0) {
            exceed("the template runs too long");
        }
    }
    void check_stack() {
        const char * here = static_cast<const char *>(__builtin_frame_address(0));
        const size_t used = here < stack ? stack - here : here - stack;
        if (used > max_stack) {
            exceed("the template recurses too deeply");
        }
    }
};

inline thread_local budget * running = nullptr;

// Gives what runs in its scope a budget, and says at the end whether it was kept.
struct budget_scope {
    budget own;
    // A conversation of that size adds to what is allowed: templates go over it more than once, and replace what is in it
    // in quadratic time.
    budget_scope(size_t conversation = 0, int64_t now = 0) {
        const int64_t kib = conversation / 1024 + 1;
        own.steps += 1000 * kib + 8 * kib * kib;
        own.stack = static_cast<const char *>(__builtin_frame_address(0));
        own.now   = now;
        running   = &own;
    }
    ~budget_scope() { running = nullptr; }
    void check() const {
        if (!own.exceeded.empty()) {
            throw limit_error(own.exceeded);
        }
    }
};

inline void charge(const jinja::value & v) {
    if (jinja::is_val<jinja::value_string>(v)) {
        const size_t size = v->val_str.length();
        if (size > max_string) {
            running->exceed("the template makes a text of more than 32 MiB");
        }
        running->spend(size / 1024);
    } else {
        running->spend(v->val_arr.size() / 128);
    }
}

struct counting_statement : jinja::statement {
    std::string type() const override { return "Count"; }
    jinja::value execute_impl(jinja::context &) const override {
        running->spend(1);
        running->check_stack();
        return jinja::mk_val<jinja::value_undefined>();
    }
};

struct clock_statement : jinja::statement {
    std::string type() const override { return "Clock"; }
    jinja::value execute_impl(jinja::context & ctx) const override {
        if (running->now != 0) {
            ctx.current_time = running->now;
        }
        return jinja::mk_val<jinja::value_undefined>();
    }
};

// A node of which the result costs.
template <typename T>
struct charged : T {
    using T::T;
    jinja::value execute_impl(jinja::context & ctx) const override {
        running->check_stack();
        jinja::value v = T::execute_impl(ctx);
        charge(v);
        return v;
    }
};

struct constant : jinja::expression {
    jinja::value val;
    explicit constant(jinja::value v) : val(std::move(v)) {}
    jinja::value execute_impl(jinja::context &) const override { return val; }
};

// "text" * n is looked at before it is made.
struct repetition : jinja::binary_expression {
    using jinja::binary_expression::binary_expression;
    jinja::value execute_impl(jinja::context & ctx) const override {
        running->check_stack();
        jinja::value a = left->execute(ctx);
        jinja::value b = right->execute(ctx);
        for (const auto & [text, n] : {std::pair(a, b), std::pair(b, a)}) {
            if (jinja::is_val<jinja::value_string>(text) && jinja::is_val<jinja::value_int>(n) &&
                double(text->val_str.length()) * double(n->val_int) > double(max_string)) {
                running->exceed("the template makes a text of more than 32 MiB");
            }
        }
        jinja::binary_expression whole(op, std::make_unique<constant>(a), std::make_unique<constant>(b));
        jinja::value v = whole.execute_impl(ctx);
        charge(v);
        return v;
    }
};

struct range_identifier : jinja::identifier {
    using jinja::identifier::identifier;
    jinja::value execute_impl(jinja::context & ctx) const override {
        jinja::value range = jinja::identifier::execute_impl(ctx);
        if (!jinja::is_val<jinja::value_func>(range)) {
            return range;
        }
        return jinja::mk_val<jinja::value_func>("range", [range](const jinja::func_args & args) {
            double bounds[3] = {0, 0, 1};
            for (size_t i = 0; i < std::min<size_t>(args.count(), 3); i++) {
                if (!jinja::is_val<jinja::value_int>(args.get_pos(i))) {
                    return range->invoke(args); // which refuses it
                }
                bounds[i] = double(args.get_pos(i)->val_int);
            }
            if (args.count() == 1) {
                std::swap(bounds[0], bounds[1]);
            }
            const double n = bounds[2] == 0 ? 0 : (bounds[1] - bounds[0]) / bounds[2];
            if (n > max_range) {
                running->exceed("the template has a range of more than 10000 elements");
            }
            running->spend(int64_t(std::max(n, 0.0)));
            return range->invoke(args);
        });
    }
};

// Whether v is nested too deeply, or is or contains target.
inline bool unfit(const jinja::value & v, const jinja::value_t * target, int depth) {
    running->spend(1);
    if (depth > max_containers || (target && v.get() == target)) {
        return true;
    }
    for (const auto & item : v->val_arr) {
        if (unfit(item, target, depth + 1)) {
            return true;
        }
    }
    for (const auto & item : v->val_obj) {
        if (unfit(item.second, target, depth + 1)) {
            return true;
        }
    }
    return false;
}

// The text that replace works on, one match after the other and moving the rest each time.
struct replaced_expression : jinja::expression {
    jinja::statement_ptr inner;
    explicit replaced_expression(jinja::statement_ptr && inner) : inner(std::move(inner)) { pos = this->inner->pos; }
    jinja::value execute_impl(jinja::context & ctx) const override {
        jinja::value v = inner->execute(ctx);
        const int64_t kib = v->val_str.length() / 1024;
        running->spend(kib * kib);
        return v;
    }
};

// A value on its way into a variable or, where there is one, a container.
struct stored_expression : jinja::expression {
    jinja::statement_ptr inner;
    const jinja::statement * into;
    stored_expression(jinja::statement_ptr && inner, const jinja::statement * into) : inner(std::move(inner)), into(into) {
        pos = this->inner->pos;
    }
    jinja::value execute_impl(jinja::context & ctx) const override {
        jinja::value v = inner->execute(ctx);
        if (v->val_arr.empty() && v->val_obj.empty() && !into) {
            return v;
        }
        const jinja::value target = into ? into->execute(ctx) : nullptr;
        if (unfit(v, target.get(), 0)) {
            running->exceed("the template nests values too deeply");
        }
        return v;
    }
};

// Whether an expression only names something, so that evaluating it twice changes nothing.
inline bool only_names(const jinja::statement * s) {
    if (const auto * m = dynamic_cast<const jinja::member_expression *>(s)) {
        return only_names(m->object.get()) && (!m->computed || only_names(m->property.get()));
    }
    return dynamic_cast<const jinja::identifier *>(s) || dynamic_cast<const jinja::integer_literal *>(s) ||
           dynamic_cast<const jinja::string_literal *>(s);
}

inline void guard(jinja::statement_ptr & s);

inline void guard(jinja::statements & list) {
    for (auto & s : list) {
        guard(s);
    }
}

inline void guard_body(jinja::statements & body) {
    guard(body);
    auto count = std::make_unique<counting_statement>();
    count->pos = body.empty() ? 0 : body.front()->pos;
    body.insert(body.begin(), std::move(count));
}

inline void store(jinja::statement_ptr & s, const jinja::statement * into) {
    if (s && !jinja::is_stmt<jinja::keyword_argument_expression>(s)) {
        s = std::make_unique<stored_expression>(std::move(s), into);
    }
}

// Puts a node in the place of the one that it was made of.
template <typename T>
void replace(jinja::statement_ptr & s, std::unique_ptr<T> && by) {
    by->pos = s->pos;
    s = std::move(by);
}

inline bool is_named(const jinja::statement_ptr & s, const char * name) {
    const auto * id = jinja::cast_stmt<jinja::identifier>(s);
    return id && id->val == name;
}

// Guards a node and what is below it. Each replacement is a subclass of what it replaces: the interpreter asks for types.
inline void guard(jinja::statement_ptr & s) {
    using namespace jinja;
    if (!s) {
        return;
    }
    if (auto * n = cast_stmt<if_statement>(s)) {
        guard(n->test);
        guard(n->body);
        guard(n->alternate);
    } else if (auto * n = cast_stmt<for_statement>(s)) {
        guard(n->iterable);
        guard_body(n->body);
        guard(n->default_block);
    } else if (auto * n = cast_stmt<set_statement>(s)) {
        guard(n->val);
        guard(n->body);
        auto * member = cast_stmt<member_expression>(n->assignee);
        store(n->val, member ? member->object.get() : nullptr);
    } else if (auto * n = cast_stmt<macro_statement>(s)) {
        guard(n->args);
        guard_body(n->body);
    } else if (auto * n = cast_stmt<call_statement>(s)) {
        guard(n->call);
        guard(n->caller_args);
        guard_body(n->body);
    } else if (auto * n = cast_stmt<filter_statement>(s)) {
        guard(n->filter);
        guard(n->body);
    } else if (auto * n = cast_stmt<member_expression>(s)) {
        guard(n->object);
        if (n->computed) {
            guard(n->property);
        }
    } else if (auto * n = cast_stmt<call_expression>(s)) {
        guard(n->callee);
        guard(n->args);
        if (auto * member = cast_stmt<member_expression>(n->callee)) {
            if (is_named(member->property, "append")) {
                for (auto & arg : n->args) {
                    store(arg, only_names(member->object.get()) ? member->object.get() : nullptr);
                }
            } else if (is_named(member->property, "replace")) {
                member->object = std::make_unique<replaced_expression>(std::move(member->object));
            }
        }
        replace(s, std::make_unique<charged<call_expression>>(std::move(n->callee), std::move(n->args)));
    } else if (auto * n = cast_stmt<identifier>(s)) {
        if (n->val == "range") {
            replace(s, std::make_unique<range_identifier>(n->val));
        }
    } else if (auto * n = cast_stmt<array_literal>(s)) {
        guard(n->val);
    } else if (auto * n = cast_stmt<tuple_literal>(s)) {
        guard(n->val);
    } else if (auto * n = cast_stmt<object_literal>(s)) {
        for (auto & [key, val] : n->val) {
            guard(key);
            guard(val);
        }
    } else if (auto * n = cast_stmt<binary_expression>(s)) {
        guard(n->left);
        guard(n->right);
        if (n->op.value == "*") {
            replace(s, std::make_unique<repetition>(n->op, std::move(n->left), std::move(n->right)));
        } else {
            replace(s, std::make_unique<charged<binary_expression>>(n->op, std::move(n->left), std::move(n->right)));
        }
    } else if (auto * n = cast_stmt<filter_expression>(s)) {
        guard(n->operand);
        guard(n->filter);
        if (auto * call = cast_stmt<call_expression>(n->filter); call && is_named(call->callee, "replace")) {
            n->operand = std::make_unique<replaced_expression>(std::move(n->operand));
        }
        replace(s, std::make_unique<charged<filter_expression>>(std::move(n->operand), std::move(n->filter)));
    } else if (auto * n = cast_stmt<select_expression>(s)) {
        guard(n->lhs);
        guard(n->test);
    } else if (auto * n = cast_stmt<test_expression>(s)) {
        guard(n->operand);
        guard(n->test);
    } else if (auto * n = cast_stmt<unary_expression>(s)) {
        guard(n->argument);
    } else if (auto * n = cast_stmt<slice_expression>(s)) {
        guard(n->start_expr);
        guard(n->stop_expr);
        guard(n->step_expr);
    } else if (auto * n = cast_stmt<keyword_argument_expression>(s)) {
        guard(n->val);
    } else if (auto * n = cast_stmt<spread_expression>(s)) {
        guard(n->argument);
    } else if (auto * n = cast_stmt<ternary_expression>(s)) {
        guard(n->condition);
        guard(n->true_expr);
        guard(n->false_expr);
    }
}

// Refuses what would overflow the stack of the recursive parser, or of the interpreter between two checks.
inline void check_nesting(const std::vector<jinja::token> & tokens) {
    using jinja::token;
    std::vector<int> blocks; // open ones; an elif is one more block within its if
    int  depth     = 0;
    int  brackets  = 0;
    int  operators = 0;
    bool set_block = false; // {% set x %}, as opposed to {% set x = 1 %}
    const auto open_block = [&] {
        blocks.push_back(1);
        depth++;
    };
    for (size_t i = 0; i < tokens.size(); i++) {
        switch (tokens[i].t) {
            case token::open_statement: {
                operators = brackets = 0;
                const std::string name = i + 1 < tokens.size() ? tokens[i + 1].value : "";
                set_block = name == "set";
                if (name == "if" || name == "for" || name == "macro" || name == "call" || name == "filter") {
                    open_block();
                } else if (name == "elif" && !blocks.empty()) {
                    blocks.back()++;
                    depth++;
                } else if (name.rfind("end", 0) == 0 && name != "endgeneration" && !blocks.empty()) {
                    depth -= blocks.back();
                    blocks.pop_back();
                }
                break;
            }
            case token::close_statement:
                if (set_block) {
                    open_block();
                }
                break;
            case token::equals:
                set_block = set_block && brackets > 0;
                break;
            case token::open_expression:
                operators = brackets = 0;
                break;
            case token::open_paren:
            case token::open_square_bracket:
            case token::open_curly_bracket:
                brackets++;
                operators++;
                break;
            case token::close_paren:
            case token::close_square_bracket:
            case token::close_curly_bracket:
                brackets--;
                break;
            case token::identifier: {
                const std::string & word = tokens[i].value;
                operators += word == "not" || word == "and" || word == "or" || word == "if" || word == "is" || word == "in";
                break;
            }
            case token::pipe:
            case token::dot:
            case token::additive_binary_operator:
            case token::multiplicative_binary_operator:
            case token::comparison_binary_operator:
            case token::unary_operator:
                operators++;
                break;
            default:
                break;
        }
        if (depth > max_nesting || brackets > max_nesting || operators > max_operators) {
            throw limit_error("the template is nested too deeply");
        }
    }
}

inline jinja::program guarded_program(const std::string & source) {
    jinja::lexer lexer;
    const jinja::lexer_result lexed = lexer.tokenize(source);
    check_nesting(lexed.tokens);
    jinja::program program = jinja::parse_from_tokens(lexed);
    guard(program.body);
    program.body.insert(program.body.begin(), std::make_unique<clock_statement>());
    program.body.front()->pos = 0;
    return program;
}

} // namespace chat
