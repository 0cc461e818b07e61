"""A model to carry away: programs and pages that run without this package."""
