-- +goose Up

CREATE TABLE stores (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: what is kept in memory is known by it
    name            TEXT    NOT NULL UNIQUE,
    embedder        TEXT    NOT NULL,
    embedder_sha256 TEXT    NOT NULL,
    dimensions      INTEGER NOT NULL CHECK (dimensions > 0),
    max_input       INTEGER NOT NULL,
    documents       INTEGER NOT NULL DEFAULT 0,
    passages        INTEGER NOT NULL DEFAULT 0,
    sequence        INTEGER NOT NULL DEFAULT 0, -- grows with every change of its documents
    created_at      INTEGER NOT NULL            -- in milliseconds since 1970, like all times here
) STRICT;

CREATE TABLE documents (
    id          TEXT    PRIMARY KEY,
    store_id    INTEGER NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    file        TEXT    NOT NULL,
    title       TEXT    NOT NULL,
    media_type  TEXT    NOT NULL,
    sha256      TEXT    NOT NULL, -- of the file
    bytes       INTEGER NOT NULL,
    recipe      TEXT    NOT NULL, -- how it was read and cut
    passages    INTEGER NOT NULL,
    attributes  TEXT    NOT NULL DEFAULT '{}',
    ingested_at INTEGER NOT NULL,
    UNIQUE (store_id, file)
) STRICT;

-- Apart from documents, whose rows are read often and should stay short.
CREATE TABLE texts (
    document_id TEXT PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
    text        TEXT NOT NULL
) STRICT;

CREATE TABLE passages (
    id          INTEGER PRIMARY KEY, -- of the row; ident is the name outside
    ident       TEXT    NOT NULL UNIQUE,
    document_id TEXT    NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    ordinal     INTEGER NOT NULL,
    headings    TEXT    NOT NULL, -- a JSON array, outermost first
    lead        TEXT    NOT NULL,
    text        TEXT    NOT NULL,
    start_byte  INTEGER NOT NULL,
    end_byte    INTEGER NOT NULL,
    tokens      INTEGER NOT NULL,
    UNIQUE (document_id, ordinal)
) STRICT;

CREATE TABLE vectors (
    passage_id INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    vector     BLOB    NOT NULL CHECK (length(vector) % 4 = 0) -- float32, little-endian, unit length
) STRICT;

-- The last change of every document there ever was in a living store: one that is not in documents was deleted.
CREATE TABLE changes (
    document_id TEXT    PRIMARY KEY,
    store_id    INTEGER NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
    sequence    INTEGER NOT NULL,
    UNIQUE (store_id, sequence)
) STRICT;

CREATE VIRTUAL TABLE passages_fts USING fts5 (
    title, headings, text, content = '', contentless_delete = 1, tokenize = 'unicode61'
);

-- +goose StatementBegin
CREATE TRIGGER passages_deleted AFTER DELETE ON passages BEGIN
    DELETE FROM passages_fts WHERE rowid = old.id;
END;
-- +goose StatementEnd
