#!/usr/bin/env python3
"""Makes everything that follows from schemas/*.json.

Decides: how a JSON Schema maps to a C struct, a field table, a golden vector and a row of schemas/README.md. Knows nothing
of how bytes are read: that is src/wire/codec.c, driven by the tables made here. What it does not understand it refuses by
file and field, so a schema never says more than the decoders enforce.

  schemac.py --c DIR SCHEMAS    write wire_gen.h and wire_gen.c to DIR
  schemac.py --write SCHEMAS    write vectors/*.json and the tables in README.md
  schemac.py --check SCHEMAS    exit 1 if one of those is not what --write would write

Beside the standard keywords: `x-op` (number of a frame, first element in msgpack), `x-order` (positional order),
`x-c` (on an enum: name of an enum shared by several schemas; `raw` on an array: kept as one msgpack value),
`x-depth` (nesting allowed in a raw value; 24 if not said).
"""
import base64
import json
import pathlib
import re
import struct
import sys

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
ANY_DEPTH = 24
FIELD_KEYS = {"type", "description", "format", "pattern", "not", "maxLength", "minimum", "maximum", "enum", "const", "items",
              "maxItems", "properties", "required", "additionalProperties", "x-c", "x-depth"}
ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"


class SchemaError(Exception):
    pass


class Field:
    def __init__(self, message, name, schema, required):
        self.message, self.name, self.schema, self.required = message, name, schema, required
        self.enum = None
        self.max = self.item_max = 0
        self.low, self.high = INT_MIN, INT_MAX
        self.depth = schema.get("x-depth", ANY_DEPTH)
        unknown = set(schema) - FIELD_KEYS
        if unknown:
            self.refuse(f"keyword {sorted(unknown)[0]!r} is not understood")
        self.kind = self.find_kind()

    def refuse(self, why):
        raise SchemaError(f"{self.message.name}.json: field {self.name!r}: {why}")

    def find_kind(self):
        s = self.schema
        kind = s.get("type")
        if "const" in s:
            return "CONST"
        if kind is None:
            return "ANY"
        if kind == "string" and "enum" in s:
            self.enum = s.get("x-c", f"{self.message.name}_{self.name}")
            return "ENUM"
        if kind == "string" and s.get("format") == "room-id":
            if s.get("pattern") != ID_PATTERN or s.get("not") != {"const": "all"}:
                self.refuse("format room-id needs its pattern and not: {const: all}")
            return "ID"
        if kind == "string":
            self.max = s.get("maxLength") or self.refuse("a string needs maxLength")
            return "STR"
        if kind == "integer":
            self.low, self.high = s.get("minimum", INT_MIN), s.get("maximum", INT_MAX)
            return "INT"
        if kind == "number":
            self.low, self.high = s.get("minimum", INT_MIN), s.get("maximum", INT_MAX)
            return "NUMBER"
        if kind == "boolean":
            return "BOOL"
        if kind == "array" and s.get("x-c") == "raw":
            return "ARRAY"
        if kind == "array" and s.get("items", {}).get("type") == "string":
            self.max, self.item_max = s.get("maxItems"), s["items"].get("maxLength")
            if not self.max or not self.item_max:
                self.refuse("an array of strings needs maxItems and items.maxLength")
            return "STRS"
        if kind == "object" and s.get("required") == ["$bin"]:
            return "BYTES"
        return self.refuse(f"type {kind!r} has no C form")

    def words(self):
        return [self.schema["const"]] if self.kind == "CONST" else self.schema.get("enum", [])

    def has_flag(self):
        return not self.required and self.kind in ("INT", "NUMBER")

    def member(self):
        form = {"ID": "struct id %s;", "STR": "struct wire_str %s;", "INT": "int64_t %s;", "NUMBER": "double %s;",
                "BOOL": "bool %s;", "ENUM": f"enum wire_{self.enum} %s;", "ANY": "struct wire_raw %s;",
                "ARRAY": "struct wire_raw %s;", "BYTES": "struct wire_bytes %s;"}
        if self.kind == "STRS":
            return f"struct {{\n        uint32_t count;\n        struct wire_str items[{self.max}];\n    }} {self.name};"
        return form[self.kind] % self.name

    def human(self):
        s = self.schema
        if self.kind == "CONST":
            return f'`"{s["const"]}"`'
        if self.kind == "ENUM":
            return " \\| ".join(f"`{w}`" for w in s["enum"])
        if self.kind == "STR":
            return f"string, {self.max} characters at most"
        if self.kind in ("INT", "NUMBER"):
            word = "integer" if self.kind == "INT" else "number"
            low = f", {self.low} or more" if self.low != INT_MIN else ""
            return word + low + (f", {self.high} at most" if self.high != INT_MAX else "")
        if self.kind == "STRS":
            return f"array of strings, {self.max} at most, {self.item_max} characters each"
        return {"ID": "id", "BOOL": "boolean", "ANY": "any value", "ARRAY": "array", "BYTES": "bytes"}[self.kind]


class Message:
    def __init__(self, path):
        self.name = path.stem
        s = self.schema = json.loads(path.read_text(encoding="utf-8"))
        self.title, self.text = s["title"], s["description"]
        self.op = s.get("x-op", 0)
        props, required, order = s["properties"], s["required"], s["x-order"]
        self.op_name = props["op"]["const"] if self.op else ""
        expected = set(props) - ({"op"} if self.op else set())
        if set(order) != expected or len(order) != len(expected):
            raise SchemaError(f"{path.name}: x-order and properties do not name the same fields")
        if not set(required) <= set(props) or len(order) > 32:
            raise SchemaError(f"{path.name}: a required field is no property, or there are more than 32 fields")
        self.fields = [Field(self, n, props[n], n in required) for n in order]
        self.examples = s["examples"]
        if set(self.examples[0]) != set(props) or set(self.examples[1]) != set(required):
            raise SchemaError(f"{path.name}: example 1 must set every field, example 2 the required ones only")


def load(folder):
    messages = [Message(p) for p in sorted(folder.glob("*.json"))]
    ops = [m.op for m in messages if m.op]
    if len(ops) != len(set(ops)):
        raise SchemaError("two schemas have the same x-op")
    return messages


def symbol(text):
    return "".join(c if c.isalnum() else "_" for c in text).upper()


def enums(messages):
    found = {}
    for m in messages:
        for f in m.fields:
            if f.enum and found.setdefault(f.enum, f.words()) != f.words():
                f.refuse(f"enum {f.enum!r} has other words elsewhere")
    return found


HEADER = """/*
 * Made by tools/schemac.py from schemas/; do not edit.
 *
 * One struct per message and its four codecs. In a struct: an id "" / a string with data NULL / a raw value with len 0 /
 * an enum 0 / an array with count 0 / has_x false = absent; an optional bool that is absent is false. Views (wire_str,
 * wire_raw, wire_bytes) borrow from the bytes they were read from.
 *
 * _pack       appends the positional msgpack form. ROOM_E_INVALID: a required field is absent or a value breaks its limit
 *             (nothing is left in `out`); ROOM_E_TOO_BIG: `out` is at its limit or has no memory.
 * _unpack     reads the positional form or a map by names; views borrow from the bytes. ROOM_E_BAD_FRAME, ROOM_E_TOO_BIG,
 *             ROOM_E_UNKNOWN_OP; the struct is then all zero. Extra elements and members are ignored.
 * _to_json    appends a JSON object; errors as _pack.
 * _from_json  empties `scratch`, transcodes into it, and reads from there: views borrow from `scratch` until it changes.
 */
#ifndef WIRE_WIRE_GEN_H
#define WIRE_WIRE_GEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "wire/wire.h"

"""


def make_header(messages):
    out = [HEADER, "enum wire_op {\n"]
    out += [f"    WIRE_OP_{symbol(m.op_name)} = {m.op},\n" for m in sorted(messages, key=lambda m: m.op) if m.op]
    out.append("};\n\n")
    for name, words in enums(messages).items():
        out.append(f"enum wire_{name} {{\n")
        out += [f"    WIRE_{symbol(name)}_{symbol(w)} = {i},\n" for i, w in enumerate(words, 1)]
        out.append("};\n")
        out.append(f"/* The word on the wire, or \"\" for 0 and for what is no such value. */\n"
                   f"const char *wire_{name}_word(enum wire_{name} value);\n\n")
    for m in messages:
        out.append(f"/* {m.text} */\nstruct wire_{m.name} {{\n")
        for f in m.fields:
            if f.kind == "CONST":
                continue
            note = "" if f.required else " (optional)"
            out.append(f"    {f.member()} /* {f.schema.get('description', '')}{note} */\n")
            if f.has_flag():
                out.append(f"    bool has_{f.name};\n")
        n = m.name
        out.append("};\n"
                   f"int wire_{n}_pack(const struct wire_{n} *m, struct buf *out) MUST_USE;\n"
                   f"int wire_{n}_unpack(struct wire_{n} *m, const uint8_t *data, size_t len, struct err_detail *detail) MUST_USE;\n"
                   f"int wire_{n}_to_json(const struct wire_{n} *m, struct buf *out) MUST_USE;\n"
                   f"int wire_{n}_from_json(struct wire_{n} *m, const char *text, size_t len, struct buf *scratch,\n"
                   f"                       struct err_detail *detail) MUST_USE;\n\n")
    out.append("#endif\n")
    return "".join(out)


def words_name(m, f):
    return f"{f.enum}_words" if f.enum else f"{m.name}_{f.name}_const"


def field_row(m, f):
    parts = [f'"{f.name}"', f"sizeof(\"{f.name}\") - 1", f"CODEC_{f.kind}", "true" if f.required else "false", str(f.depth)]
    row = "{.name = %s, .name_len = %s, .kind = %s, .required = %s, .depth = %s" % tuple(parts)
    if f.kind != "CONST":
        row += f", .offset = offsetof(struct wire_{m.name}, {f.name})"
    if f.has_flag():
        row += f", .has_flag = true, .has_offset = offsetof(struct wire_{m.name}, has_{f.name})"
    if f.max:
        row += f", .max = {f.max}"
    if f.item_max:
        row += f", .item_max = {f.item_max}"
    low = "INT64_MIN" if f.low == INT_MIN else str(f.low)
    high = "INT64_MAX" if f.high == INT_MAX else str(f.high)
    row += f", .low = {low}, .high = {high}"
    if f.words():
        row += f", .words = {words_name(m, f)}, .word_count = {len(f.words())}"
    return row + "}"


def make_source(messages):
    out = ["/* Made by tools/schemac.py from schemas/; do not edit. */\n#include \"wire/wire_gen.h\"\n\n"
           "#include \"wire/codec.h\"\n\n"]
    for name, words in enums(messages).items():
        listed = ", ".join(f'"{w}"' for w in words)
        out.append(f"static const char *const {name}_words[] = {{{listed}}};\n"
                   f"_Static_assert(sizeof(enum wire_{name}) == sizeof(int), \"an enum is read and written as an int\");\n\n"
                   f"const char *wire_{name}_word(enum wire_{name} value)\n{{\n"
                   f"    return value >= 1 && (int)value <= {len(words)} ? {name}_words[value - 1] : \"\";\n}}\n\n")
    for m in messages:
        for f in m.fields:
            if f.kind == "CONST":
                out.append(f'static const char *const {words_name(m, f)}[] = {{"{f.schema["const"]}"}};\n')
        rows = ",\n".join("    " + field_row(m, f) for f in m.fields)
        n = m.name
        out.append(f"static const struct codec_field {n}_fields[] = {{\n{rows},\n}};\n\n"
                   f"static const struct codec_message {n}_message = {{\n"
                   f"    .name = \"{n}\", .op = {m.op}, .op_name = \"{m.op_name}\", .fields = {n}_fields,\n"
                   f"    .field_count = {len(m.fields)}, .size = sizeof(struct wire_{n}),\n}};\n\n"
                   f"int wire_{n}_pack(const struct wire_{n} *m, struct buf *out)\n{{\n"
                   f"    return codec_pack(&{n}_message, m, out);\n}}\n\n"
                   f"int wire_{n}_unpack(struct wire_{n} *m, const uint8_t *data, size_t len, struct err_detail *detail)\n{{\n"
                   f"    return codec_unpack(&{n}_message, m, data, len, detail);\n}}\n\n"
                   f"int wire_{n}_to_json(const struct wire_{n} *m, struct buf *out)\n{{\n"
                   f"    return codec_to_json(&{n}_message, m, out);\n}}\n\n"
                   f"int wire_{n}_from_json(struct wire_{n} *m, const char *text, size_t len, struct buf *scratch,\n"
                   f"                       struct err_detail *detail)\n{{\n"
                   f"    return codec_from_json(&{n}_message, m, text, len, scratch, detail);\n}}\n\n")
    out.append("const struct codec_message *const codec_messages[] = {\n")
    out += [f"    &{m.name}_message,\n" for m in messages]
    out.append(f"}};\n\nconst size_t codec_message_count = {len(messages)};\n")
    return "".join(out)


def pack(value):
    """The shortest msgpack form, as msgpack-c and most other packers write it."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return pack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return head(len(raw), (0xA0, 31), (0xD9, 0xDA, 0xDB)) + raw
    if isinstance(value, list):
        return head(len(value), (0x90, 15), (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    if set(value) == {"$bin"}:
        raw = base64.b64decode(value["$bin"], validate=True)
        return head(len(raw), None, (0xC4, 0xC5, 0xC6)) + raw
    pairs = b"".join(pack(k) + pack(v) for k, v in value.items())
    return head(len(value), (0x80, 15), (None, 0xDE, 0xDF)) + pairs


def head(count, fix, sizes):
    if fix and count <= fix[1]:
        return bytes([fix[0] | count])
    for first, limit, form in zip(sizes, (0xFF, 0xFFFF, 0xFFFFFFFF), (">B", ">H", ">I")):
        if first and count <= limit:
            return bytes([first]) + struct.pack(form, count)
    raise SchemaError("an example is too long")


def pack_int(v):
    if -32 <= v <= 127:
        return struct.pack(">b", v)
    forms = ((0xCC, ">B", 0xFF), (0xCD, ">H", 0xFFFF), (0xCE, ">I", 0xFFFFFFFF), (0xCF, ">Q", 1 << 64))
    if v < 0:
        forms = ((0xD0, ">b", 1 << 7), (0xD1, ">h", 1 << 15), (0xD2, ">i", 1 << 31), (0xD3, ">q", 1 << 63))
    for first, form, limit in forms:
        if (v if v > 0 else -v) <= limit:
            return bytes([first]) + struct.pack(form, v)
    raise SchemaError("an integer of an example is too large")


def positional(m, example):
    def element(f):
        value = example.get(f.name)
        return pack(float(value) if f.kind == "NUMBER" and value is not None else value)
    items = ([pack(m.op)] if m.op else []) + [element(f) for f in m.fields]
    return head(len(items), (0x90, 15), (None, 0xDC, 0xDD)) + b"".join(items)


def vector_text(m):
    rows = [json.dumps({"name": f"{m.name} {label}", "schema": f"{m.name}.json", "json": e, "msgpack": positional(m, e).hex()},
                       ensure_ascii=False)
            for label, e in zip(["with every field", "with the required fields"] +
                                [f"example {i}" for i in range(3, 99)], m.examples)]
    return "[\n  " + ",\n  ".join(rows) + "\n]\n"


def tables_text(messages):
    out = []
    for m in sorted(messages, key=lambda m: (m.op or 1000, m.name)):
        number = f" ({m.op})" if m.op else ""
        out.append(f"#### `{m.op_name or m.title}`{number}\n\n{m.text} [{m.name}.json]({m.name}.json)\n\n")
        out.append("| position | field | value | |\n|---|---|---|---|\n")
        for i, f in enumerate(m.fields):
            name = f"`{f.name}`" + ("" if f.required else " ?")
            out.append(f"| {i + (1 if m.op else 0)} | {name} | {f.human()} | {f.schema.get('description', '')} |\n")
        out.append("\n")
    return "".join(out)


def errors_text(folder):
    """The rows of include/room/error.h: the words a client can meet."""
    header = (folder.resolve().parent / "include" / "room" / "error.h").read_text(encoding="utf-8")
    rows = re.findall(r'X\(\w+, (-\d+), "(\w+)", "([^"]*)", ([01])\)', header)
    head = "\n| code | meaning | worth a retry |\n|---|---|---|\n"
    return head + "".join(f"| `{word}` ({number}) | {text} | {'yes' if retry == '1' else 'no'} |\n" for number, word, text, retry in rows) + "\n"


def replace_part(text, part, content):
    begin, end = f"<!-- {part}: begin (made by tools/schemac.py --write) -->\n", f"<!-- {part}: end -->\n"
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end)[1]


def derived(folder, messages):
    files = {folder / "vectors" / f"{m.name}.json": vector_text(m) for m in messages}
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8")
    text = replace_part(text, "tables", "\n" + tables_text(messages))
    files[readme] = replace_part(text, "errors", errors_text(folder))
    return files


def main(args):
    if len(args) not in (2, 3) or args[0] not in ("--c", "--write", "--check"):
        sys.exit(__doc__)
    folder = pathlib.Path(args[-1])
    messages = load(folder)
    if args[0] == "--c":
        out = pathlib.Path(args[1])
        (out / "wire_gen.h").write_text(make_header(messages), encoding="utf-8")
        (out / "wire_gen.c").write_text(make_source(messages), encoding="utf-8")
        return
    files = derived(folder, messages)
    stale = [p for p, text in files.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    stale += [p for p in (folder / "vectors").glob("*.json") if p not in files]
    if args[0] == "--write":
        (folder / "vectors").mkdir(exist_ok=True)
        for path in stale:
            path.write_text(files[path], encoding="utf-8") if path in files else path.unlink()
    elif stale:
        sys.exit("stale, run tools/schemac.py --write schemas: " + ", ".join(str(p) for p in stale))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SchemaError as error:
        sys.exit(f"schemac: {error}")
