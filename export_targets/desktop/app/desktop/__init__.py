"""A window that draws pictures with the model beside it."""
