-- +goose Up

ALTER TABLE passages ADD COLUMN page INTEGER NOT NULL DEFAULT 0; -- that the passage begins on; 0: the file has none
