"""Plots of what was measured, as SVG that reads on light and on dark pages."""
