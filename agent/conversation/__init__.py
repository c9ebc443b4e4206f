"""What the chat is made of: the transcript, slash commands, completion."""
