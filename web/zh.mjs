// Simplified Chinese for the sentences that web/ shows itself.
export default {};
