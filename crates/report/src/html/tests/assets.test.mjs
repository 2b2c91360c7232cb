// The assets as a whole: what the page's policy and the joining of its scripts rest upon.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { GLOSSARY } from '../assets/glossary.js';

const folder = new URL('../assets/', import.meta.url);
const files = readdirSync(folder).filter((f) => f.endsWith('.js'));
const source = Object.fromEntries(files.map((f) => [f, readFileSync(new URL(f, folder), 'utf8')]));
const page = readFileSync(new URL('../page.rs', import.meta.url), 'utf8');
// The scripts of each page, in their order.
const pages = ['const SCRIPTS', 'const RECORDING_SCRIPTS'].map((list) => [...page.split(list)[1].split('];')[0].matchAll(/assets\/([\w.]+)/g)].map((m) => m[1]));

test('every script is joined, after those that it imports', () => {
  assert.deepEqual([...new Set(pages.flat())].sort(), [...files].sort());
  for (const joined of pages) {
    assert.equal(new Set(joined).size, joined.length);
    for (const [i, file] of joined.entries()) {
      for (const [, other] of source[file].matchAll(/^import .* from '\.\/([\w.]+)';$/gm)) {
        const at = joined.indexOf(other);
        assert.ok(at >= 0 && (at < i || circular(file, other)), `${file} imports ${other}, which stands behind it`);
      }
    }
  }
});

// Two files may need one another as long as neither does while it is read.
function circular(a, b) {
  return source[b].includes(`from './${a}'`);
}

test('import lines fall away when joined: one line each', () => {
  for (const [file, text] of Object.entries(source)) {
    for (const line of text.split('\n').filter((l) => /^\s*import\b/.test(l))) assert.match(line, /^import .* from '\.\/[\w.]+';$/, file);
    assert.doesNotMatch(text, /^export (default|\{|\*)/m, file);
  }
});

test('a name at the top of a file is given once in all', () => {
  const given = new Map();
  for (const [file, text] of Object.entries(source)) {
    for (const [, name] of text.matchAll(/^(?:export )?(?:async )?(?:function\*?|class|const|let|var) (\w+)/gm)) {
      assert.ok(!given.has(name), `${name} is in ${given.get(name)} and ${file}`);
      given.set(name, file);
    }
  }
  assert.ok(given.size > 50);
});

test('text gets onto the page as text only', () => {
  const markup = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTML|\beval\(|new Function|setAttribute\('(style|on)|srcdoc|javascript:/;
  for (const [file, text] of Object.entries(source)) assert.doesNotMatch(text, markup, file);
  const html = readFileSync(new URL('page.html', folder), 'utf8');
  assert.doesNotMatch(html, /\sstyle=|\son\w+=/);
});

test('nothing in a script ends it, and nothing is loaded', () => {
  for (const [file, text] of Object.entries(source)) {
    assert.doesNotMatch(text, /<\/script|<!--/i, file);
    assert.doesNotMatch(text, /\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|importScripts|EventSource/, file);
  }
  for (const css of readdirSync(folder).filter((f) => f.endsWith('.css'))) assert.doesNotMatch(readFileSync(new URL(css, folder), 'utf8'), /url\(|@import|<\//, css);
});

test('every word that asks for an explanation has one', () => {
  const used = new Set();
  for (const [file, text] of Object.entries(source)) {
    for (const [, word] of text.matchAll(/(?<![\w.])term\('([^']+)'/g)) used.add(word);
    for (const [, word] of text.matchAll(/\bword: '([^']+)'/g)) used.add(word);
    assert.ok(text.length > 0, file);
  }
  for (const word of used) assert.ok(Object.hasOwn(GLOSSARY, word), `no explanation of ${word}`);
  assert.ok(used.size > 40);
});

test('the words of the heap crate are explained', () => {
  const lib = readFileSync(new URL('../../../../heap/src/lib.rs', import.meta.url), 'utf8');
  const glossary = lib.split('# Glossary')[1].split('# Design')[0];
  const words = [...glossary.matchAll(/\*\*([^*]+)\*\*/g)].flatMap((m) => m[1].split(' / '));
  assert.ok(words.length > 10);
  const said = JSON.stringify(GLOSSARY).toLowerCase();
  const elsewhere = { requested: 'asked for', carved: 'carved', span: 'span that pymalloc can give back', 'owner of a block': 'the slot that holds the pointer to a block', chain: 'chain', 'internal fragmentation': 'internal fragmentation: bytes inside live blocks that nobody asked for' };
  for (const word of words) assert.ok(Object.hasOwn(GLOSSARY, word) || said.includes(elsewhere[word] ?? '\u0000'), `no explanation of ${word}`);
});
