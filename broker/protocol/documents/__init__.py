"""The protocol as JSON Schema and AsyncAPI, generated from its structs. Nothing that serves messages imports this."""
