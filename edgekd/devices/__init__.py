"""Machines that measure models: this one, and others through their agent."""
