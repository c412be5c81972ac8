import torch

from edgekd.distill.distribution import matching_gradient, matching_loss


def _three() -> torch.Tensor:
    return torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_gradient_is_dmds():
    latents, real, fake = _three()
    found = matching_gradient(latents, real, fake)
    for i in range(2):
        # As the authors write it, with the scores' differences from the picture.
        p_real, p_fake = latents[i] - real[i], latents[i] - fake[i]
        torch.testing.assert_close(found[i], (p_real - p_fake) / p_real.abs().mean())


def test_the_loss_has_that_gradient():
    latents, real, fake = _three()
    gradient = matching_gradient(latents, real, fake)
    student = latents.clone().requires_grad_()
    (found,) = torch.autograd.grad(matching_loss(student, gradient), student)
    # The target is rounded: pictures and gradients are of the size of 1.
    torch.testing.assert_close(found * latents.numel(), gradient, atol=1e-6, rtol=1e-5)


def test_pictures_that_both_scores_agree_on_stay():
    latents, real, _ = _three()
    assert not matching_gradient(latents, real, real).any()
    assert torch.isfinite(matching_gradient(real, real, real)).all()
