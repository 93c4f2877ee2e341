//! Rust, parsed. Only what is nested is counted: blocks of control flow and closures' bodies, not struct literals.

use proc_macro2::{Span, TokenStream};
use syn::visit::{self, Visit};

use crate::{Function, Seen, bounds};

/// The functions of a whole file, tests left out; none: it does not parse, or is nested deeper than a parser should
/// follow.
pub(crate) fn functions(seen: &[Seen<'_>]) -> Option<Vec<Function>> {
    let mut text = String::new();
    for line in seen {
        text.push_str(line.text);
        text.push('\n');
    }
    let tokens: TokenStream = text.parse().ok()?;
    if !bounds::hold(&tokens) {
        return None;
    }
    let mut finder = Finder::default();
    finder.visit_file(&syn::parse2(tokens).ok()?);
    Some(finder.found)
}

#[derive(Default)]
struct Finder {
    found: Vec<Function>,
}

impl Finder {
    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let mut nesting = Nesting::default();
        nesting.visit_block(body);
        let (first, last) = (line(signature.fn_token.span), line(body.brace_token.span.close()));
        let deepest = if nesting.most == 0 { first } else { nesting.deepest };
        self.found.push(Function { name: signature.ident.to_string(), first, last, depth: nesting.most, deepest });
    }
}

fn line(span: Span) -> u32 {
    u32::try_from(span.start().line).unwrap_or(u32::MAX)
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let tests = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
        });
        if !tests {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
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

impl Nesting {
    fn enter(&mut self, span: Span, inside: impl FnOnce(&mut Self)) {
        self.now += 1;
        if self.now > self.most {
            (self.most, self.deepest) = (self.now, line(span));
        }
        inside(self);
        self.now -= 1;
    }
}

impl<'ast> Visit<'ast> for Nesting {
    fn visit_expr_if(&mut self, expression: &'ast syn::ExprIf) {
        self.enter(expression.if_token.span, |nesting| {
            let mut link = expression;
            loop {
                nesting.visit_expr(&link.cond);
                nesting.visit_block(&link.then_branch);
                match link.else_branch.as_ref().map(|(_, otherwise)| otherwise.as_ref()) {
                    // `else if` is no deeper than the `if` before it.
                    Some(syn::Expr::If(next)) => link = next,
                    Some(otherwise) => return nesting.visit_expr(otherwise),
                    None => return,
                }
            }
        });
    }

    fn visit_expr_match(&mut self, expression: &'ast syn::ExprMatch) {
        self.enter(expression.match_token.span, |nesting| visit::visit_expr_match(nesting, expression));
    }

    fn visit_expr_for_loop(&mut self, expression: &'ast syn::ExprForLoop) {
        self.enter(expression.for_token.span, |nesting| visit::visit_expr_for_loop(nesting, expression));
    }

    fn visit_expr_while(&mut self, expression: &'ast syn::ExprWhile) {
        self.enter(expression.while_token.span, |nesting| visit::visit_expr_while(nesting, expression));
    }

    fn visit_expr_loop(&mut self, expression: &'ast syn::ExprLoop) {
        self.enter(expression.loop_token.span, |nesting| visit::visit_expr_loop(nesting, expression));
    }

    fn visit_expr_closure(&mut self, expression: &'ast syn::ExprClosure) {
        // One that is a single expression reads like a part of the line it stands in.
        if matches!(expression.body.as_ref(), syn::Expr::Block(_)) {
            self.enter(expression.or1_token.span, |nesting| visit::visit_expr_closure(nesting, expression));
        } else {
            visit::visit_expr_closure(self, expression);
        }
    }

    // Functions within functions are measured by themselves.
    fn visit_item(&mut self, _: &'ast syn::Item) {}
}
