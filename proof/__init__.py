"""``make prove``: what only a real AWS account can show, observed by one program that cleans up after itself."""
