"""How a navigator is asked and what it answers, from words to tokens; neither torch nor weights."""
