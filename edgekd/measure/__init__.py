"""Clock, memory, environment: the stopwatch, itself tested."""
