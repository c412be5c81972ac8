from fixtures.pipelines import tiny_pipeline

__all__ = ["tiny_pipeline"]
