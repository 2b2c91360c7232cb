// Columns: from an island in the page to typed arrays. Owns base64, inflating and varints; knows no meaning.

// The bytes of an island, or null where there is none.
export async function island(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const text = atob(element.textContent);
  const stored = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const stream = new Blob([stored]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
