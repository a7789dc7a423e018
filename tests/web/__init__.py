"""The pages in a real browser: Debian's Chromium, headless, against the real service."""
