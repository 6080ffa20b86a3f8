"""Writing that never blocks an event loop: a queue with a thread, and text streams on it."""
