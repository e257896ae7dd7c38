// Package lexical makes of texts the terms by which BM25 finds them: the same for passages and questions, and for every record.
//
// Terms are words in lower case without diacritics, and pairs of neighbouring characters where a script has no spaces between
// words. Words are stemmed only in a store whose language was told. Stop words stay in passages and are dropped from questions.
package lexical
