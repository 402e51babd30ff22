package pgjson

// Settings are the parameters of every session whose output Append reads, or that prints rows by row_to_json beside it:
// the walsender's and the snapshots'. The two agree on bytes only if all of these are set on both.
func Settings() map[string]string {
	return map[string]string{
		"client_encoding":       "UTF8",
		"TimeZone":              "UTC",
		"DateStyle":             "ISO, MDY",
		"IntervalStyle":         "postgres",
		"bytea_output":          "hex",
		"extra_float_digits":    "1", // any positive number: the shortest text that reads back exactly
		"lc_monetary":           "C",
		"search_path":           "", // names in regclass and its kin are qualified, and nobody can put functions in between
		"quote_all_identifiers": "off",
	}
}
