"""What the controller does for the panels: each file one thing that is begun, under way, and over. No widget here."""
