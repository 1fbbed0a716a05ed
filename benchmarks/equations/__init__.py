"""Differential equations: jaxcon's recipe beside published ones."""
