//! Rust, parsed. Only what is nested is counted: blocks of control flow and closures' bodies, not struct literals.

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::{Function, Seen};

/// The functions of a whole file; none: it does not parse, or is nested deeper than a parser should follow.
pub(crate) fn functions(seen: &[Seen<'_>]) -> Option<Vec<Function>> {
    const DEEPEST: usize = 100;
    let text = seen.iter().map(|line| line.text).collect::<Vec<_>>().join("\n");
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
    }
    let file = syn::parse_file(&text).ok()?;
    let mut finder = Finder { found: Vec::new() };
    finder.visit_file(&file);
    Some(finder.found)
}

struct Finder {
    found: Vec<Function>,
}

impl Finder {
    fn function(&mut self, name: &syn::Ident, whole: proc_macro2::Span, body: &syn::Block) {
        let mut nesting = Nesting::default();
        visit::visit_block(&mut nesting, body);
        let line = |at: proc_macro2::LineColumn| u32::try_from(at.line).unwrap_or(u32::MAX);
        let (first, last) = (line(name.span().start()), line(whole.end()));
        let deepest = if nesting.deepest == 0 { first } else { nesting.deepest };
        self.found.push(Function { name: name.to_string(), first, last, depth: nesting.most, deepest });
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.span(), &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, item.span(), &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig.ident, item.span(), body);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

#[derive(Default)]
struct Nesting {
    now: u32,
    most: u32,
    deepest: u32,
}

impl<'ast> Visit<'ast> for Nesting {
    fn visit_expr(&mut self, expression: &'ast syn::Expr) {
        let nests = matches!(
            expression,
            syn::Expr::If(_) | syn::Expr::Match(_) | syn::Expr::ForLoop(_) | syn::Expr::While(_) | syn::Expr::Loop(_) | syn::Expr::Closure(_)
        );
        if !nests {
            return visit::visit_expr(self, expression);
        }
        self.now += 1;
        if self.now > self.most {
            self.most = self.now;
            self.deepest = u32::try_from(expression.span().start().line).unwrap_or(u32::MAX);
        }
        visit::visit_expr(self, expression);
        self.now -= 1;
    }

    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.visit_expr(&expression.cond);
        self.visit_block(&expression.then_branch);
        if let Some((_, otherwise)) = &expression.else_branch {
            // `else if` is no deeper than the `if` before it.
            match otherwise.as_ref() {
                syn::Expr::If(next) => self.visit_expr_if(next),
                other => self.visit_expr(other),
            }
        }
    }

    // Functions within functions are measured by themselves.
    fn visit_item(&mut self, _: &'ast syn::Item) {}
}
