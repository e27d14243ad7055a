//! Reads a catalogue as it arrives.

use crate::bottle::FormulaName;

use super::split::ArraySplitter;
use super::unpack::Unpacker;
use super::{Catalogue, CatalogueError, SAME_NAME, Skipped, element};

/// Reads a catalogue from chunks of its JSON, or of that packed with gzip.
#[derive(Default)]
pub struct Reader {
    unpacker: Unpacker,
    elements: Elements,
}

/// What the elements of the document came to so far.
#[derive(Default)]
struct Elements {
    splitter: ArraySplitter,
    catalogue: Catalogue,
    names: element::Interner,
    aliases: Vec<(FormulaName, u32)>,
    seen: usize,
}

impl Reader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the document.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), CatalogueError> {
        let Self { unpacker, elements } = self;
        unpacker.push(chunk, |text| elements.push(text))
    }

    /// Ends the document.
    pub fn finish(self) -> Result<Catalogue, CatalogueError> {
        let Self { mut unpacker, mut elements } = self;
        if !unpacker.finish(|text| elements.push(text))? {
            return Err(CatalogueError::Truncated { formulae: elements.seen });
        }
        elements.finish()
    }
}

impl Elements {
    fn push(&mut self, text: &[u8]) -> Result<(), CatalogueError> {
        let Self { splitter, catalogue, names, aliases, seen } = self;
        splitter.push(text, |element| {
            take(catalogue, names, aliases, *seen, element);
            *seen += 1;
        })
    }

    fn finish(self) -> Result<Catalogue, CatalogueError> {
        self.splitter.finish(self.seen)?;
        let mut catalogue = self.catalogue;
        if self.seen > 0 && catalogue.skipped.len() == self.seen {
            let Skipped { name, why } = catalogue.skipped.swap_remove(0);
            return Err(CatalogueError::NothingReadable { count: self.seen, name, why });
        }
        // Aliases last: a formula's own name always wins over another's alias.
        for (alias, position) in self.aliases {
            catalogue.by_name.entry(alias).or_insert(position);
        }
        Ok(catalogue)
    }
}

fn take(
    catalogue: &mut Catalogue,
    names: &mut element::Interner,
    aliases: &mut Vec<(FormulaName, u32)>,
    position: usize,
    element: &[u8],
) {
    match element::read(element, names) {
        Ok(Some(read)) => {
            let index = u32::try_from(catalogue.formulae.len()).unwrap_or(u32::MAX);
            if catalogue.by_name.contains_key(&read.formula.name) {
                catalogue
                    .skipped
                    .push(Skipped { name: read.formula.name.to_string(), why: SAME_NAME.to_owned() });
                return;
            }
            catalogue.by_name.insert(read.formula.name.clone(), index);
            aliases.extend(read.aliases.into_iter().map(|alias| (alias, index)));
            catalogue.formulae.push(read.formula);
        }
        Ok(None) => catalogue.unbottled += 1,
        Err(why) => {
            let name = element::name_of(element).unwrap_or_else(|| format!("element {position}"));
            catalogue.skipped.push(Skipped { name, why });
        }
    }
}
