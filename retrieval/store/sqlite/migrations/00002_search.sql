-- +goose Up

ALTER TABLE passages ADD COLUMN page INTEGER NOT NULL DEFAULT 0; -- that the passage begins on; 0: the file has none

-- A document's structure, so that it can be cut and embedded anew without its file: a JSON array, '' where it wasn't kept.
ALTER TABLE texts ADD COLUMN blocks TEXT NOT NULL DEFAULT '';

ALTER TABLE stores ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';

-- What documents.attributes says, by value. Strings compare by code points.
CREATE TABLE attributes (
    document_id TEXT    NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    store_id    INTEGER NOT NULL,
    key         TEXT    NOT NULL,
    kind        TEXT    NOT NULL, -- string, number, truth
    value       ANY     NOT NULL,
    PRIMARY KEY (store_id, key, kind, value, document_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attributes_of_document ON attributes (document_id);

-- Terms are made by retrieval/lexical; what was ingested before is split by SQLite until it is ingested anew. The scope names the
-- store. Terms of all stores stand in one index, so how rare a term is counts over all of them.
DROP TRIGGER passages_deleted;
DROP TABLE passages_fts;
CREATE VIRTUAL TABLE passages_fts USING fts5 (
    scope, terms, content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 2 categories 'L* N* Co M*'"
);
INSERT INTO passages_fts (rowid, scope, terms)
SELECT p.id, 's' || d.store_id, d.title || ' ' || p.headings || ' ' || p.text FROM passages p JOIN documents d ON d.id = p.document_id;
-- +goose StatementBegin
CREATE TRIGGER passages_deleted AFTER DELETE ON passages BEGIN
    DELETE FROM passages_fts WHERE rowid = old.id;
END;
-- +goose StatementEnd
