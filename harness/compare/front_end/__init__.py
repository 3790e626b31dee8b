"""A program's input features against openai-whisper's, and what its front end does otherwise."""
