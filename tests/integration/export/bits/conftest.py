from fixtures.pipelines import shallow_pipeline

__all__ = ["shallow_pipeline"]
