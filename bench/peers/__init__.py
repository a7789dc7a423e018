"""The same checkpoint behind other servers, each set up as its own guide recommends."""
