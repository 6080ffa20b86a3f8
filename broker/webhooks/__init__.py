"""Webhooks: the application is told what happened, by batches of the engine's outbox that are posted to it."""
