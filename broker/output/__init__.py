"""Writing that never stops a loop: a queue with a thread behind it, and text streams on that."""
