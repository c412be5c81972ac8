"""Bits per weight, tensor by tensor: recipes, their choice by measurement, and their storage."""
