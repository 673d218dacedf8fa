"""Float modules whose int8 form quantizes what it reads as it arrives, and their replacement in a model that is not traced."""
