"""Samples against raters: figures of cases and volumes, and the tables that show them; it samples nothing itself."""
