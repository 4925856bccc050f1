"""The commands of service/, one file each; `service.cli` mounts them by name and imports them only when called."""
