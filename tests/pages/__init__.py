"""The pages of the documentation: their code blocks, and how they are run."""
