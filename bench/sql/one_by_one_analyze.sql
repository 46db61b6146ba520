-- Statistics of what the baseline has for itself.
ANALYZE one_by_one.posting;
