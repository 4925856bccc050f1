"""The commands of models/, one file each; `service.cli` mounts them by name and imports them only when called.

They are typer functions. One that needs an engine takes it from the click context's object, `models.tools.Tools`.
"""
