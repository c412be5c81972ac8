"""What each verb does, in its order. The only place that knows an order of stages."""
