// Package ranking measures rankings against judgements: nDCG, recall, reciprocal rank and average precision with confidence
// intervals, of data in BEIR's format (Thakur et al. 2021) or of judged questions about a store.
package ranking
