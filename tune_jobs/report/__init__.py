"""Pages and figures of finished studies."""
