package cmd

import (
	"context"
	"fmt"

	"github.com/quipu-ai/quipu/engine"
	"github.com/quipu-ai/quipu/models"
)

// rerankModel finds the file of the reranking model that the settings name; without one there is none.
func (a *app) rerankModel(ctx context.Context) (models.Installed, error) {
	if a.settings.RerankModel == "" {
		return models.Installed{}, nil
	}
	m, err := a.resolve(ctx, a.settings.RerankModel)
	if err != nil {
		err = fmt.Errorf("reranking model: %w", err)
	}
	return m, err
}

// openReranker loads the reranking model m, if there is one.
func (a *app) openReranker(ctx context.Context, m models.Installed) error {
	if m.Path == "" {
		return nil
	}
	model, err := a.load(ctx, m, reranks, engine.Hooks{})
	if err != nil {
		return fmt.Errorf("reranking model %s: %w", m.Name, err)
	}
	a.rerankers = append(a.rerankers, model.Reranker)
	return nil
}
