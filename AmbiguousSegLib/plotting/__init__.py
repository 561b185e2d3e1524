"""Pictures: contact sheets, overviews, charts."""
