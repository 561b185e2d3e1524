"""One class for each section of the module's .ui: between its widgets, the parameter node and the scene."""
