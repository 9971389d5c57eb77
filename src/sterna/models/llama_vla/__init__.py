"""Small vision-language-action models with the shape of published ones, built offline."""
